"""What the studio answers over HTTP, besides its pages."""
