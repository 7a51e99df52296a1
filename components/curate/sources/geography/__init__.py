"""Public packages about countries: flags and maps, with the facts they come with."""
