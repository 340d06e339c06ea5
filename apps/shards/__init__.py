"""A key-value store in parts, each in rack memory of its own, that hands parts to other instances: by grant, or by copying."""
