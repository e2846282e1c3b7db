package config

import (
	"errors"
	"fmt"
)

// Tracing says whether and where traces of requests are sent.
type Tracing struct {
	// Enabled sends them; the other fields have no effect without it.
	Enabled bool
	// Address is the collector's, host and port; it takes OTLP over gRPC without TLS.
	Address string
	// Service and Instance name this member in traces; an empty Instance is left out.
	Service, Instance string
	// PerMillion is how many of a million traces that begin here are sent. Those of clients that are traced always are.
	PerMillion int
}

// samplingMax is every trace.
const samplingMax = 1_000_000

var tracingFlags = []Flag{
	{Name: "enable-distributed-tracing", Group: TracingGroup, Key: "enable-distributed-tracing", Default: "false",
		Usage: "Send traces of requests.",
		bind:  func(c *Config) value { return boolean(&c.Tracing.Enabled) }},
	{Name: "distributed-tracing-address", Group: TracingGroup, Key: "distributed-tracing-address", Default: "localhost:4317",
		Usage: "Address of the trace collector, which takes OTLP over gRPC.",
		bind:  func(c *Config) value { return text(&c.Tracing.Address) }},
	{Name: "distributed-tracing-service-name", Group: TracingGroup, Key: "distributed-tracing-service-name", Default: "etcd",
		Usage: "Service name in traces, the same for all members.",
		bind:  func(c *Config) value { return text(&c.Tracing.Service) }},
	{Name: "distributed-tracing-instance-id", Group: TracingGroup, Key: "distributed-tracing-instance-id",
		Usage: "Instance id in traces, another one for each member.",
		bind:  func(c *Config) value { return text(&c.Tracing.Instance) }},
	{Name: "distributed-tracing-sampling-rate", Group: TracingGroup, Key: "distributed-tracing-sampling-rate", Default: "0",
		Usage: "How many of a million traces that no client has begun are sent.",
		bind:  func(c *Config) value { return integer(&c.Tracing.PerMillion) }},
}

// checkTracing refuses a rate that is none, with etcd's messages.
func (c *Config) checkTracing() error {
	var err error
	switch t := c.Tracing; {
	case !t.Enabled:
		return nil
	case t.PerMillion < 0:
		err = errors.New("tracing sampling rate must be positive")
	case t.PerMillion > samplingMax:
		err = fmt.Errorf("tracing sampling rate must be less than %d", samplingMax)
	default:
		return nil
	}
	return fmt.Errorf("distributed tracing configurition is not valid: (%w)", err)
}
