"""Several processes that train as one: who starts them, how they meet, agree, and end together."""
