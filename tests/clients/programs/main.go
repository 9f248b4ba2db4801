package main

import (
	"context"
	"os"

	client "github.com/GIT_USER_ID/GIT_REPO_ID"
)

func main() {
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	api := client.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), client.ContextAccessToken, os.Args[2])
	page, _, err := api.InventoryAPI.ListInventory(ctx).Limit(2).Execute()
	if err != nil || page.Meta.Total != 1248 || page.Data[0].Sku != "SKU-001" {
		panic(err)
	}
	_, response, err := api.InventoryAPI.GetInventory(ctx, "NOPE").Execute()
	if err == nil || response.StatusCode != 404 {
		panic("no error")
	}
}
