"""The fork tree of a request: when another answer begins, how the answers run, and which of them is given."""
