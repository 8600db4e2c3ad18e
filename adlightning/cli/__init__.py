"""The verbs of the command line; nothing is imported before its verb is asked for."""
