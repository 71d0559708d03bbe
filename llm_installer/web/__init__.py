"""The studio: web page and job API. Nothing is served yet; everything it will need is in the stories."""
