"""The REST interface and the page, as ``openapi.yaml`` describes them."""
