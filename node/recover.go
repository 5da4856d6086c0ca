package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"time"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/replication/group"
)

// RecoverOptions say what Recover makes, and from what.
type RecoverOptions struct {
	Home    string
	Name    string
	Dir     string
	Phrase  string // the account's recovery phrase
	Relay   string // a relay's code, or the address of a relay or device of the account
	Timeout time.Duration
	Log     *slog.Logger
}

// Recover makes this device one of an account by the account's recovery phrase, at a
// relay that keeps things for it or at a device that is left. One that fails or is
// interrupted can be done again.
func Recover(ctx context.Context, o RecoverOptions) (JoinResult, error) {
	if err := checkSetup(o.Name, o.Home, o.Dir); err != nil {
		return JoinResult{}, err
	}
	paper, err := group.PhraseKeys(strings.Join(strings.Fields(o.Phrase), " "))
	if err != nil {
		return JoinResult{}, &api.Error{Kind: api.ErrUsage, Code: "mistyped-phrase", Message: "the recovery phrase is mistyped or incomplete", Remedy: "type all 24 words as they were shown, in their order", Cause: err}
	}
	doors, err := recoveryDoors(o.Relay)
	if err != nil {
		return JoinResult{}, err
	}
	h, err := makeHome(o.Home)
	if err != nil {
		return JoinResult{}, setupError(err)
	}
	keys, err := h.joinerKeys()
	if err != nil {
		return JoinResult{}, err
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	a := asking{log: o.Log, home: h, keys: keys, doors: doors, begin: func() (*group.Joiner, group.Hello, error) {
		return group.NewRecovery(rand.Reader, paper, keys, o.Name)
	}}
	joined, _, err := a.claim(ctx)
	if err != nil {
		return JoinResult{}, recoveryError(err)
	}
	if err := h.write(statementsFile, encodeStatements(joined.Log.Statements()), 0o600); err != nil {
		return JoinResult{}, err
	}
	d := description{Name: o.Name, Relays: relaysAmong(doors, joined.Log), Recovered: true}
	if err := h.settle(d, joined.Log.Group(), o.Dir, true); err != nil {
		return JoinResult{}, setupError(err)
	}
	return JoinResult{Device: keys.ID().String(), Account: joined.Log.Group().String()}, nil
}

// recoveryDoors reads where to ask.
func recoveryDoors(text string) ([]door, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, api.Errorf(api.ErrUsage, "give --relay with a code from `sheaf-relay invite`, or an address from `sheaf-relay address` or `sheaf address`", "it has to be said where the account is known")
	}
	if strings.HasPrefix(text, "/") {
		doors := doorsOf([]string{text}, mesh.DeviceID{})
		if len(doors) == 0 || doors[0].id == (mesh.DeviceID{}) {
			return nil, api.Errorf(api.ErrUsage, "give one as `sheaf-relay address` prints it, with /p2p/", "%q is not an address", text)
		}
		return doors, nil
	}
	code, err := group.ParseCode(text, group.RelayCode)
	if err != nil {
		return nil, relayCodeError(err)
	}
	return doorsOf(code.Addresses, mesh.DeviceID(code.Inviter)), nil
}

// recoveryError says what went wrong in the words of a recovery.
func recoveryError(err error) error {
	var e *api.Error
	if errors.As(err, &e) && e.Code == "unknown-code" {
		return &api.Error{Kind: api.ErrRefused, Code: "unknown-phrase", Message: "no account with this recovery phrase is known there", Remedy: "see that it is the right relay, and the right phrase", Cause: err}
	}
	return err
}
