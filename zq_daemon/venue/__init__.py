"""What a venue is to the daemon (`interface`), and one package for each kind of venue."""
