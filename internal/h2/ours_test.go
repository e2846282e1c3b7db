package h2_test

// ours is the server of this package.
func ours(o options) server { return reference(o) }
