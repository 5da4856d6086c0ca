package group

import (
	"fmt"
	"io"
)

// A Founding says what group to found.
type Founding struct {
	Purpose Purpose
	Name    string   // of the founding device
	Label   string   // of a Share: the folder's name; of an Account: empty
	Account ID       // of a Share: the founder's account
	Paper   Keys     // of an Account: the recovery phrase's, which agrees to it
	Devices []Device // further owners from the start: the account's other devices
}

// Found makes a group's first statement: its founder, its paper device and any
// other devices given are owners, and the first epoch's key is sealed to them.
// The group's ID is the statement's Group. LoadLog makes the log of it.
func Found(rand io.Reader, k Keys, f Founding) ([]Statement, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("found group: %w", err)
	}
	devices := []Device{k.Device()}
	devices[0].Name = f.Name
	paper := -1
	if f.Purpose == Account {
		paper = len(devices)
		devices = append(devices, f.Paper.Device())
		devices[paper].Name = paperName
	}
	devices = append(devices, f.Devices...)
	e, key, err := newEpoch(rand, devices, Keyring{}, nil)
	if err != nil {
		return nil, fmt.Errorf("found group: %w", err)
	}
	g := &genesisBody{Purpose: f.Purpose, Account: f.Account, Epoch: e}
	for i, d := range devices {
		if err := CheckName(d.Name); err != nil {
			return nil, fmt.Errorf("found group: device name: %w", err)
		}
		name, err := sealName(rand, StatementID{}, key, nameContext+d.ID.Hex(), d.Name)
		if err != nil {
			return nil, fmt.Errorf("found group: %w", err)
		}
		g.Founders = append(g.Founders, founder{Device: certify(d), Name: name, Paper: i == paper})
	}
	if g.Label, err = sealName(rand, StatementID{}, key, labelContext, f.Label); err != nil {
		return nil, fmt.Errorf("found group: %w", err)
	}
	if paper >= 0 {
		g.Consent = f.Paper.Sign(consentContext, g.consented(k.ID()))
	}
	s, err := (&body{Author: k.ID(), Seq: 1, Genesis: g}).sign(k)
	if err != nil {
		return nil, fmt.Errorf("found group: %w", err)
	}
	return []Statement{s}, nil
}

// paperName is what the paper device is called.
const paperName = "recovery phrase"

func (f Founding) check() error {
	switch f.Purpose {
	case Account:
		if f.Paper.ID().IsZero() {
			return fmt.Errorf("an account needs a paper device: %w", ErrMalformed)
		}
		if f.Label != "" || !f.Account.IsZero() {
			return fmt.Errorf("an account has no label and no account: %w", ErrMalformed)
		}
	case Share:
		if err := CheckName(f.Label); err != nil {
			return fmt.Errorf("folder name: %w", err)
		}
	default:
		return fmt.Errorf("%s: %w", f.Purpose, ErrMalformed)
	}
	return nil
}
