"""The command line and the settings: the only room that knows every other."""
