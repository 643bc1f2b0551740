"""The browser annotator: a folder of photos in, a project (a COCO panoptic data set and what was pinned) out."""
