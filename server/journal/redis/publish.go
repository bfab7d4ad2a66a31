package redis

import (
	"context"
	"sync"

	"github.com/redis/rueidis"
)

// publisher is the node of a cluster that publishes what instances tell each other. Any does,
// and rueidis always takes the one with the first slot: when that is gone, nobody is told.
type publisher struct {
	mu      sync.Mutex // guards all below
	address string
}

// node returns a client of the node, and its address: another one than has failed.
func (p *publisher) node(client rueidis.Client, failed string) (node rueidis.Client, address string) {
	if client.Mode() != rueidis.ClientModeCluster {
		return client, ""
	}
	nodes := client.Nodes()
	p.mu.Lock()
	defer p.mu.Unlock()
	if node := nodes[p.address]; node != nil && p.address != failed {
		return node, p.address
	}
	for address, node := range nodes { // in no order
		if address != failed {
			p.address = address
			return node, address
		}
	}
	return client, ""
}

// publish has the store publish, if need be with another node than before.
func (j *Journal) publish(ctx context.Context, commands ...rueidis.Completed) {
	node, address := j.publisher.node(j.client, "")
	for range 3 {
		if err := worst(j.doMultiAt(ctx, node, commands...)); !isOutage(err) || address == "" || ctx.Err() != nil {
			return
		}
		node, address = j.publisher.node(j.client, address)
	}
}
