"""The fork tree of a request: when another answer starts, how the answers run, and which of them is returned."""
