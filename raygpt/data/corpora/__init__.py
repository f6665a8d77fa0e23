"""Where text comes from: a name → a corpus, whose parts are read apart from each other."""
