"""stead: the services of a compute cloud, one package each, and what they share."""
