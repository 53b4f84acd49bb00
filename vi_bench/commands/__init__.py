"""The command line's commands, a module each; what is heavy is imported late."""
