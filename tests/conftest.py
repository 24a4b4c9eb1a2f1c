"""Tests run with 64-bit floats available; a test of float32 passes float32 arrays itself."""

import jax

jax.config.update("jax_enable_x64", True)
