"""For the tests of drivers: ends of a vif that do what a script says (`peer`)."""
