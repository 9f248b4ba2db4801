import { graphql } from "relay-runtime";

export const query = graphql`
  query StockListQuery($first: Int!, $after: String) {
    ...StockList_skus
  }
`;

export const page = graphql`
  fragment StockList_skus on Query @refetchable(queryName: "StockListPageQuery") {
    skus(first: $first, after: $after) @connection(key: "StockList_skus") {
      edges {
        node {
          id
          sku
          status
          totalAvailable
        }
      }
    }
  }
`;

export const count = graphql`
  mutation StockListCountMutation($input: SetStockInput!) {
    setStock(input: $input) {
      sku {
        id
        totalOnHand
      }
    }
  }
`;

export const watch = graphql`
  subscription StockListWatchSubscription($after: Quantity) {
    stockChanged(skus: ["SKU-003"], after: $after) {
      position
      after {
        onHand
      }
    }
  }
`;
