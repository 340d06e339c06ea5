"""The rmem wire protocol, addresses and the rack description: the leaf that controller, hosts and tests share."""
