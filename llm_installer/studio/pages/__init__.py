"""The pages of the studio: HTML from templates, plain forms, and a little JavaScript that they also work without."""
