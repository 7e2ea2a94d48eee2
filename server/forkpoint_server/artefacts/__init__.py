"""The vectors and readouts that policies can name: from a folder and from the store, sent to the workers."""
