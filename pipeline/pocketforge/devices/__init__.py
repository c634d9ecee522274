"""Where model files run, a kind a module, named in registries.DEVICES; what is known of devices."""
