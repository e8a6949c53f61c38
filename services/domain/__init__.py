"""Pure nouns that services share. Standard library only, no await, no clock."""
