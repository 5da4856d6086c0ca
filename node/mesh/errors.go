package mesh

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multistream"
)

// What can go wrong between two devices, for [errors.Is]. The errors of this
// package wrap one of these (or the error of a context) together with its
// cause.
var (
	// ErrBadAddress: the text is no address this package can use: not a
	// multiaddr, without a /p2p/ part, or of a device whose key is not Ed25519.
	ErrBadAddress = errors.New("not a usable address")
	// ErrUnreachable: nothing answered at any address known.
	ErrUnreachable = errors.New("unreachable")
	// ErrRefused: the other device answered and wants nothing to do with us: it
	// does not hold this device for a member, or has reached a limit of its own.
	ErrRefused = errors.New("refused by the other device")
	// ErrWrongIdentity: another device than the one meant answers at the address.
	ErrWrongIdentity = errors.New("another device answers at this address")
	// ErrNotMember: this device does not hold the other for a member, so no
	// stream is opened to it.
	ErrNotMember = errors.New("not a member")
	// ErrProtocol: the other device has no handler for the protocol.
	ErrProtocol = errors.New("protocol not spoken by the other device")
	// ErrNoAddress: no address is known for the device.
	ErrNoAddress = fmt.Errorf("%w: no address known", ErrUnreachable)
	// ErrLimit: one of this device's own Limits is reached.
	ErrLimit = errors.New("limit of connections or streams reached")
	// ErrStopped: the mesh has been stopped.
	ErrStopped = errors.New("mesh stopped")
)

// classify finds the sentinel for an error of libp2p's. The error of a context
// stays what it is: the caller gave up, nothing is known of the peer.
func classify(ctx context.Context, err error) error {
	var mismatch sec.ErrPeerIDMismatch
	var closed *network.ConnError
	var reset *network.StreamError
	var notSpoken multistream.ErrNotSupported[protocol.ID]
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mismatch):
		return fmt.Errorf("%w: %w", ErrWrongIdentity, err)
	case errors.As(err, &closed) && closed.Remote && closed.ErrorCode == network.ConnGated:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.As(err, &reset) && reset.Remote:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return fmt.Errorf("%w: %w", ErrNotMember, err)
	case errors.As(err, &notSpoken):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return fmt.Errorf("%w: %w", ErrLimit, err)
	case errors.Is(err, swarm.ErrSwarmClosed):
		return fmt.Errorf("%w: %w", ErrStopped, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
