"""What tests of a service need: real servers, forced faults, fakes. Shipped, documented, itself tested."""
