"""Images with annotations: boxes, keypoints, masks. A source a module, and one beside it that reads its samples."""
