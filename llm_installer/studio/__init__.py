"""The studio: training jobs over HTTP and on a page, and the workers that do them."""
