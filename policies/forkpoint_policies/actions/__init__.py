"""Actions that are one file each: what a user writes, how it compiles, what it does to the logits, and its placebo."""

import forkpoint_policies.spec  # noqa: F401  the language first: it reads the files of this folder
