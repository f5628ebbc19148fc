"""What the systems for Korean language contests share: their files, and what is wrong in them."""
