"""How far responses follow their instructions: as a file says, or as a model judges."""
