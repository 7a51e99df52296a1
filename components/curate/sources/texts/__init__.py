"""Public packages of text, as it is or drawn as pictures."""
