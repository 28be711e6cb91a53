"""The smallest service that spends money: an order, a purchase, one charge."""
