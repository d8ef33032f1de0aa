package retail_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/retail"
)

func TestTheDataSetIsWhole(t *testing.T) {
	var lines, invoices int
	var total int64
	customers := map[string]bool{}
	require.NoError(t, retail.Read(func(i retail.Invoice) error {
		invoices++
		lines += len(i.Lines)
		total += i.TotalMillis()
		if i.Customer != "" {
			customers[i.Customer] = true
		}
		return nil
	}))
	require.Equal(t, retail.Lines, lines)
	require.Equal(t, retail.Invoices, invoices)
	require.Len(t, customers, retail.Customers)
	require.EqualValues(t, retail.TotalMillis, total)
}

func TestARefundHasPositiveWorth(t *testing.T) {
	i := retail.Invoice{Number: "C1", Lines: []retail.Line{{StockCode: "a", Quantity: -3, PriceMillis: 1255}}}
	raw, err := i.JSON()
	require.NoError(t, err)
	var got struct {
		Event       string
		AnonymousID string `json:"anonymousId"`
		Properties  struct {
			Revenue  json.Number
			Products []struct {
				Quantity int
				Price    json.Number
			}
		}
	}
	require.NoError(t, json.Unmarshal(raw, &got))
	require.Equal(t, "Order Refunded", got.Event)
	require.Equal(t, "order-C1", got.AnonymousID)
	require.Equal(t, json.Number("3.765"), got.Properties.Revenue)
	require.Equal(t, 3, got.Properties.Products[0].Quantity)
	require.Equal(t, json.Number("1.255"), got.Properties.Products[0].Price)
}
