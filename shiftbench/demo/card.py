def write_cards(*a):
    pass
