"""Where activations lie while a model is divided over a mesh."""

import jax
import keras


def by_rows(x: jax.Array) -> jax.Array:
    """Returns an array of a batch with its rows divided over the mesh as the batch is, and everything else whole.

    Said where a layer begins: weights that are divided over the same axis as the batch are then gathered for a layer,
    where XLA may else exchange the far larger activations. Without a mesh, or where the rows do not divide, nothing
    happens.

    Args:
        x: (rows, ...).
    """
    layouts = keras.distribution.distribution()
    if not isinstance(layouts, keras.distribution.ModelParallel):
        return x
    if x.shape[0] % layouts.num_model_replicas:
        return x
    return jax.lax.with_sharding_constraint(x, layouts.get_data_layout(x.shape).backend_layout)
