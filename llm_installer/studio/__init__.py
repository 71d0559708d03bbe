"""Jobs with a web page, an API and workers: what is trained here, on other machines and on Colab."""
