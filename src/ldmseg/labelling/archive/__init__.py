"""Maps for archives of any size: shard by shard, by several processes, and resumable at any instant.

`ldmseg.labelling.archive.run.label_archive` is the whole; docs/archives.md has the commands.
"""
