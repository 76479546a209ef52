"""What servers of pages share: files with their headers, ranges of stored objects, styles and
scripts."""
