"""2D backbones, their conversion to 3D, and the networks built on them."""
