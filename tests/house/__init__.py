"""Structure, language, documentation, migrations and commands of the project."""
