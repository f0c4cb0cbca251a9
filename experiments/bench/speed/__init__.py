"""What `bench speed` measures: the suite's fast forms against the papers', targets beside them."""
