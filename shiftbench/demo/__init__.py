"""How the bundled demo models were made, and the models themselves."""
