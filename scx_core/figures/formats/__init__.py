"""A circuit as files: HTML, Neuronpedia's JSON, GraphML, and all of them at once."""
