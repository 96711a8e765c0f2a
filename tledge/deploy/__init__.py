"""Taking things out of a bundle for where they will run."""
