"""How a step's loss and gradients are computed: eagerly, or staged as one graph."""
