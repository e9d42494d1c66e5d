"""XGen: from a video or a motion file to checked, augmented interaction clips."""
