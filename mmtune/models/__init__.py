"""Loading, describing and running models, and adapters on them."""
