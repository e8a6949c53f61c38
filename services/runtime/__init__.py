"""How any service of any cloud lives. Knows no service of this one."""
