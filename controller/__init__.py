"""The slow control plane of the Rack MMU: a pure core (``controller.core``) inside a thin shell."""
