"""A paper's own published explanations: read, joined to its prompts and ratings, and its tables computed anew."""
